# The image of the steps with PyTorch: for experiments that search architectures, as argo.image.
#
#   make images [TAG=...] [NAS_TAG=...] [BUILD_OPTIONS="--build-arg INDEX=https://download.pytorch.org/whl/cpu"]
#
# INDEX is another package index to find PyTorch in, beside pip's own: PyTorch's for CPUs, or for a version of CUDA.
ARG STEPS=katib-flow:0.1.0

FROM ${STEPS}
ARG INDEX=
USER 0
COPY dockerfiles/nas-requirements.txt /tmp/
RUN /opt/katib-flow/bin/pip install --no-cache-dir ${INDEX:+--extra-index-url ${INDEX}} -r /tmp/nas-requirements.txt \
 && rm /tmp/nas-requirements.txt \
 && find /opt/katib-flow -type d -name tests -path '*sklearn*' -prune -exec rm -rf {} +
USER 10001:10001
