"""MLflow's documented REST API, as far as we need it, without an import of MLflow."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from katib_flow.tracking.api import ApiError, Group, Page, Run, RunFilter, order
from katib_flow.tracking.encode import Point
from katib_flow.tracking.server import API, Server, content

MOST_POINTS = 25_000  # values of a metric per answer


class RestApi:
    """An ``Api`` over the REST API of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def contact(self, timeout_seconds: float) -> None:
        """Make one cheap call, so that a wrong address fails early."""
        path = f"{API}/experiments/search"
        content(self._server.request("GET", path, params={"max_results": 1}, timeout=timeout_seconds), path)

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value is not None}
        return content(self._server.request("GET", f"{API}/{path}", params=given), path)

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        given = {name: value for name, value in body.items() if value is not None}
        return content(self._server.request("POST", f"{API}/{path}", json=given), path)

    def experiment(self, name: str) -> Group | None:
        """The MLflow experiment of a name; None if it does not exist."""
        try:
            group = self._get("experiments/get-by-name", experiment_name=name)["experiment"]
        except ApiError as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return Group(group["experiment_id"], group.get("lifecycle_stage", "active") == "active")

    def create_experiment(self, name: str, artifact_root: str | None, tags: Mapping[str, str]) -> str:
        """Create an experiment, and return its id."""
        body = {"name": name, "artifact_location": artifact_root, "tags": _pairs(tags)}
        return str(self._post("experiments/create", **body)["experiment_id"])

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an MLflow experiment, one call per tag."""
        for key, value in tags.items():
            self._post("experiments/set-experiment-tag", experiment_id=experiment_id, key=key, value=value)

    def create_run(self, experiment_id: str, started_ms: int, tags: Mapping[str, str], name: str) -> Run:
        """Create a run, with a single request."""
        answer = self._post(
            "runs/create",
            experiment_id=experiment_id,
            user_id=tags.get("mlflow.user", "unknown"),
            run_name=name,
            start_time=started_ms,
            tags=_pairs(tags),
        )
        return _run(answer["run"])

    def run(self, run_id: str) -> Run:
        """One run."""
        return _run(self._get("runs/get", run_id=run_id)["run"])

    def search(
        self,
        experiment_id: str,
        where: RunFilter,
        *,
        newest_first: bool = False,
        limit: int = 1000,
        token: str | None = None,
    ) -> Page:
        """Return a page of the matching runs, in the order of their start."""
        answer = self._post(
            "runs/search",
            experiment_ids=[experiment_id],
            filter=where.text(),
            run_view_type="DELETED_ONLY" if where.deleted else "ACTIVE_ONLY",
            max_results=limit,
            order_by=[order(newest_first=newest_first)],
            page_token=token,
        )
        return Page([_run(run) for run in answer.get("runs", ())], answer.get("next_page_token") or None)

    def log_batch(
        self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Point]
    ) -> None:
        """Log params, tags and metrics of a run."""
        points = [
            {"key": it.key, "value": _number_out(it.value), "timestamp": it.timestamp_ms, "step": it.step}
            for it in metrics
        ]
        self._post("runs/log-batch", run_id=run_id, params=_pairs(params), tags=_pairs(tags), metrics=points)

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None:
        """Set the status of a run, and its end in milliseconds since the epoch, if given."""
        self._post("runs/update", run_id=run_id, status=status, end_time=ended_ms)

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        self._post("runs/delete", run_id=run_id)

    def metric_history(self, run_id: str, key: str) -> list[Point]:
        """All values of a metric, in the order in which they were logged."""
        points: list[Point] = []
        token: str | None = None
        while True:
            page = {"run_id": run_id, "metric_key": key, "max_results": MOST_POINTS, "page_token": token}
            answer = self._get("metrics/get-history", **page)
            points += [
                Point(key, float(it["value"]), int(it["timestamp"]), int(it.get("step", 0)))
                for it in answer.get("metrics", ())
            ]
            token = answer.get("next_page_token") or None
            if token is None:
                return points


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _mapping(pairs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in pairs}


def _number_out(value: float) -> float | str:
    """A number in the JSON encoding of protocol buffers."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _run(answer: Mapping[str, Any]) -> Run:
    info, data = answer["info"], answer.get("data", {})
    return Run(
        run_id=info["run_id"],
        experiment_id=info["experiment_id"],
        status=info.get("status", "RUNNING"),
        start_ms=int(info.get("start_time", 0)),
        end_ms=int(info["end_time"]) if info.get("end_time") else None,
        artifact_uri=info.get("artifact_uri", ""),
        tags=_mapping(data.get("tags", ())),
        params=_mapping(data.get("params", ())),
        metrics={metric["key"]: float(metric["value"]) for metric in data.get("metrics", ())},
    )
