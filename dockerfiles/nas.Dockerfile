# The image of the steps with PyTorch, as argo.image of experiments that search architectures.
#
#   make images TORCH=cpu [TAG=...] [NAS_TAG=...]      without TORCH, PyTorch with CUDA, 5.6 GB
#
# INDEX is a package index for PyTorch, in addition to pip's own; TORCH=cpu and TORCH=cu128 select one of PyTorch's.
ARG STEPS=katib-flow:0.1.0

FROM ${STEPS}
ARG INDEX=
USER 0
COPY dockerfiles/nas-requirements.txt /tmp/
RUN /opt/katib-flow/bin/pip install --no-cache-dir ${INDEX:+--extra-index-url ${INDEX}} -r /tmp/nas-requirements.txt \
 && rm /tmp/nas-requirements.txt \
 && find /opt/katib-flow -type d \( -path '*/torch/test' -o -name tests -not -path '*/torch/*' \) -prune -exec rm -rf {} + \
 && rm -f /opt/katib-flow/lib/python3*/site-packages/torch/bin/*[Tt]est*
USER 10001:10001
