# The image of an MLflow server with the drivers of PostgreSQL (psycopg 3) and of S3 (boto3), for workflow_templates/mlflow.
#
#   make images [BASE=...] [MLFLOW_TAG=...] [BUILDER=buildah|podman|docker] [BUILD_OPTIONS="--isolation chroot ..."]
#
# BASE is any Debian from 12 or Ubuntu from 24.04, with or without python3.
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS base
RUN command -v python3 >/dev/null \
 || (apt-get update && apt-get install -y --no-install-recommends python3 ca-certificates && rm -rf /var/lib/apt/lists/*)

FROM base AS build
RUN python3 -c 'import ensurepip' || (apt-get update && apt-get install -y --no-install-recommends python3-venv)
COPY dockerfiles/mlflow-requirements.txt /build/
RUN python3 -m venv /opt/mlflow \
 && /opt/mlflow/bin/pip install --no-cache-dir -r /build/mlflow-requirements.txt \
 && find /opt/mlflow -type d -name tests -prune -exec rm -rf {} +

FROM base
COPY --from=build /opt/mlflow /opt/mlflow
ENV PATH=/opt/mlflow/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp USER=mlflow MLFLOW_DISABLE_TELEMETRY=true
USER 10001:10001
WORKDIR /tmp
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]
