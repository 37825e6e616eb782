# The image of the steps: katib-flow, the clients of MLflow and Kubernetes, and a static busybox; no shell scripts.
#
#   make images [BASE=...] [TAG=...] [BUILDER=buildah|podman|docker] [BUILD_OPTIONS="--isolation chroot ..."]
#
# BASE is any Debian from 12 or Ubuntu from 24.04, with or without python3; a folder made by debootstrap and imported as
# an image works, too. pip is kept, because it installs trial.packages. The build needs no network but the package
# indexes. A function or command trial needs an image of its own: FROM this one, then its code and packages.
ARG BASE=docker.io/library/python:3.12-slim

FROM ${BASE} AS base
RUN command -v python3 >/dev/null \
 || (apt-get update && apt-get install -y --no-install-recommends python3 ca-certificates && rm -rf /var/lib/apt/lists/*)

FROM base AS build
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static \
 && (python3 -m venv --help >/dev/null && python3 -c 'import ensurepip' || apt-get install -y --no-install-recommends python3-venv)
COPY dockerfiles/steps-requirements.txt constraints.txt /build/
COPY dist/*.whl /build/
# a report needs only one file of Plotly: 5 of 64 MB
RUN python3 -m venv /opt/katib-flow \
 && /opt/katib-flow/bin/pip install --no-cache-dir --no-compile -r /build/steps-requirements.txt \
 && /opt/katib-flow/bin/pip install --no-cache-dir --no-compile --no-deps /build/*.whl \
 && /opt/katib-flow/bin/pip uninstall -y -q setuptools \
 && /opt/katib-flow/bin/pip install --no-cache-dir --no-compile --no-deps --target /build/plotly "$(grep ^plotly== /build/constraints.txt)" \
 && cp /build/plotly/plotly/package_data/plotly.min.js /opt/katib-flow/lib/python3*/site-packages/katib_flow/reports/ \
 && find /opt/katib-flow -type d -name tests -prune -exec rm -rf {} + \
 && /opt/katib-flow/bin/python -m compileall -q /opt/katib-flow

FROM base
COPY --from=build /opt/katib-flow /opt/katib-flow
# prepare copies busybox next to the user's container, which may have neither a shell nor a libc
COPY --from=build /bin/busybox /usr/local/bin/busybox
ENV PATH=/opt/katib-flow/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp USER=katib-flow
# the image has no git to look for, and a pod needs no connection but the one to MLflow
ENV GIT_PYTHON_REFRESH=quiet MLFLOW_DISABLE_TELEMETRY=true
# a numeric user, so that runAsNonRoot needs no passwd of the image; only /kf and /tmp are writable in a pod
USER 10001:10001
WORKDIR /tmp
CMD ["python3", "-m", "katib_flow.steps.suggest", "--help"]
