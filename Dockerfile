# The HTTP service. On a CPU:           docker build -t spectra-jax .
# On NVIDIA GPUs with CUDA 13 (or 12):  docker build -t spectra-jax --build-arg EXTRAS=serve,inspect,report,cuda13 .
#
#   docker run --rm -p 127.0.0.1:8000:8000 -e SPECTRA_JAX_API_KEY -v spectra-jax-cache:/cache spectra-jax --model demo
#
# The model is downloaded into the volume at the first start, and the compiled network is kept there.
FROM python:3.12-slim-bookworm

ARG EXTRAS=serve,inspect,report

WORKDIR /source
COPY pyproject.toml README.md LICENSE MANIFEST.in ./
COPY convert ./convert
COPY spectra_jax ./spectra_jax
# The versions are those of pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[${EXTRAS}]" \
    && useradd --create-home --uid 10001 spectra \
    && mkdir /cache \
    && chown spectra /cache

USER 10001
WORKDIR /home/spectra
ENV XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    PYTHONUNBUFFERED=1
VOLUME /cache
EXPOSE 8000
# It is ready once the network is compiled, which takes up to a minute the first time.
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# It needs SPECTRA_JAX_API_KEY, since it listens for other machines.
ENTRYPOINT ["spectra-jax", "serve", "--host", "0.0.0.0"]
