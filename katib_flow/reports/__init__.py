"""History -> what a person wants to know of a search: its report, and which parameters matter."""
