"""Files that a command names, beside the spec and in the working directory, and what is said of one that is nowhere."""

from pathlib import Path

import pytest

from katib_flow.spec.files import located, missing


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work" / "src").mkdir(parents=True)
    (tmp_path / "beside" / "train").mkdir(parents=True)
    for name in ("beside/train.py", "beside/run.sh", "work/src/train.py", "work/train.py"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "beside"


def test_a_file_beside_the_spec_comes_before_one_in_the_working_directory(base: Path) -> None:
    assert located(["sh", "train.py", "src/train.py"], base) == ["sh", f"{base}/train.py", "src/train.py"]
    assert located(["./run.sh"], base) == [f"{base}/run.sh"]
    assert located(["sh", "train.py"], None) == ["sh", "train.py"]


def test_an_argument_that_names_no_file_is_left_as_it_is(base: Path) -> None:
    argv = ["sh", "train", "--file=train.py", "0.5", "${x}.py", "/train.py", "a" * 5000 + ".py", "a\0.py", "-c", ""]
    assert located(argv, base) == argv


@pytest.mark.parametrize(
    ("command", "where", "need"),
    [
        (["sh", "trian.py"], "trial.command[1]", "a file in {base} or {here}"),
        (["sh", "-e", "trian.py"], "trial.command[2]", "a file in {base} or {here}"),
        (["no-such-program-here"], "trial.command[0]", "an executable program on the PATH"),
        (["./no.sh"], "trial.command[0]", "an executable program in {base} or {here}"),
    ],
)
def test_what_is_nowhere_is_told(command: list[str], where: str, need: str, base: Path) -> None:
    (found,) = missing(command, {}, base, "trial.command")
    assert (found.where, found.need) == (where, need.format(base=base, here=Path.cwd()))


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "train.py"],
        ["sh", "src/train.py"],
        ["./run.sh"],
        ["sh", "-c", "trian.py"],
        ["sh", "-o", "errexit", "trian.py"],  # what an option takes is not known
        ["sh", "${x}"],
        ["${x}"],
        ["sh"],
        ["true", "trian.py"],
    ],
)
def test_what_may_be_there_is_not_complained_of(command: list[str], base: Path) -> None:
    assert list(missing(command, {}, base, "trial.command")) == []


def test_the_path_is_that_of_the_trial(base: Path) -> None:
    assert list(missing(["run.sh"], {"PATH": str(base)}, None, "trial.command")) == []
    assert len(list(missing(["sh", "train.py"], {"PATH": str(base)}, None, "trial.command"))) == 1
