"""Algorithms that run elsewhere: what a program is asked and may answer, and how it is run. None of it is trusted."""
