"""What is said of a metric that was not found: only what the lines show."""

import pytest

from katib_flow.metrics.hints import why_not_found
from katib_flow.spec.sections import Metrics

NO_NUMBER = "which is not a number: digits with at most one decimal point and an exponent, and nothing else"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nothing of the kind", ""),
        ("Accuracy=0.75", "lines report 'Accuracy'; names are case-sensitive"),
        ("acuracy=0.75 lr=1", "lines report 'acuracy', 'lr'; did you mean 'acuracy'?"),
        ("epoch=1 lr=0.5", "lines report 'epoch', 'lr'"),
        ("a=1 b=1 c=1 d=1 e=1 f=1", "lines report 'a', 'b', 'c', 'd', 'e' and 1 more"),
        ('{"accuracy": 0.75}', "a line ends with a JSON object that contains it; set metrics.format: json to read it"),
        (
            "  2%| | 1/50 {'accuracy': 0.75, 'loss': nan}",
            "a line ends with a Python dict that contains it; set metrics.format: json to read it",
        ),
        (
            "{'accuracy': 0.75} done",
            "a line contains it in an object before other text; print the object last, with metrics.format: json",
        ),
        (
            "accuracy: 0.75",
            "a line has 'accuracy: 0.75'; print accuracy=0.75, or set metrics.filter to find it",
        ),
        (
            "Accuracy 0.75",
            "a line has 'Accuracy 0.75'; print accuracy=0.75, or set metrics.filter to find it",
        ),
        ("accuracy=tensor(0.75)", f"a line has 'tensor(0.75)' for it, {NO_NUMBER}"),
        ("accuracy={", f"a line has '{{' for it, {NO_NUMBER}"),
    ],
)
def test_text_lines_show_what_stands_there_instead(line, said):
    assert why_not_found("accuracy", Metrics(), ["begin", line, "end"]) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("accuracy=0.75", "a line has accuracy=...; set metrics.format: text to read it"),
        ('{"Accuracy": 0.75}', "lines report 'Accuracy'; names are case-sensitive"),
        ('{"loss": 0.75}', "lines report 'loss'"),
        ('{"accuracy": null}', "a line has None for it, which is not a number"),
        ("{'accuracy': f(1)}", "a line has 'f(1)' for it, which is not a number"),
        ("{'acuracy': inf}", "lines report 'acuracy'; did you mean 'acuracy'?"),
        (
            "{'accuracy': 0.75} done",
            "a line contains it in an object before other text; print the object last, with metrics.format: json",
        ),
        ("['accuracy']", ""),
    ],
)
def test_json_lines_show_what_stands_there_instead(line, said):
    assert why_not_found("accuracy", Metrics(format="json"), [line]) == said


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        (r"([\\w|-]+)\\s*:\\s*((-?\\d+)(\\.\\d+)?)", "metrics.filter matched nothing in 2 lines"),
        (r"(\w+): (\S+)", f"metrics.filter finds '0.5s' for it, {NO_NUMBER}"),
        (r"(L\w+): ([\d.]+)", "metrics.filter finds 'Loss'; names are case-sensitive"),
        (r"(epoch) ([\d.]+)", "metrics.filter finds 'epoch'"),
    ],
)
def test_a_filter_is_told_by_what_it_finds(filter_, said):
    assert why_not_found("loss", Metrics(filter=(filter_,)), ["epoch 3", "Loss: 0.5 loss: 0.5s"]) == said
