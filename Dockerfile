# The receiver, and only what it needs at run time.
#
#   docker build -t backchannel-logout-receiver .
#
# If your network has its own certificate authority or package index, pass the machine's settings as
# secrets; they are mounted for one command and appear in no layer:
#
#   docker build --secret id=pip.conf,src=/etc/pip.conf \
#     --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt --build-arg PIP_CERT=/run/secrets/ca .
#
# With traces (OpenTelemetry, `otel = true`): --build-arg LOCK=requirements/otel.lock

# The newest Python that is tested (.github/workflows/ci.yml), by digest, because a tag can move.
# For a newer one, `docker buildx imagetools inspect python:3.14-slim` prints it.
ARG BASE=python:3.14-slim@sha256:ce40764625a4ff50df3548277632e7f96c4e77fe75fa848aae9885476e7df5a4

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
ARG PIP_CERT
ARG LOCK=requirements/runtime.lock
WORKDIR /src
# Two environments, one to build and one to run. The second has no pip.
RUN python -m venv /opt/build && python -m venv --without-pip /opt/receiver
COPY requirements/build.lock requirements/runtime.lock requirements/otel.lock requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca \
    /opt/build/bin/pip install --require-hashes -r requirements/build.lock \
    && /opt/build/bin/pip --python /opt/receiver install --require-hashes -r "$LOCK"
COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY app app
# No network from here on. The bytecode is never compared with its source: the file system is
# read-only at run time, and a start must not compile.
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation -w /wheels ./clients/python . \
    && /opt/build/bin/pip --python /opt/receiver install --no-index --no-deps /wheels/*.whl \
    && python -m compileall -q -f --invalidation-mode unchecked-hash /opt/receiver/lib

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="backchannel-logout-receiver" \
      org.opencontainers.image.description="OpenID Connect back-channel logout to Redis" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/receiver /opt/receiver
# Remove the base image's installers. Then one import writes the bytecode of the standard library's
# modules in use, which the base image lacks.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip \
       /usr/local/lib/python3*/site-packages/pip* \
    && /opt/receiver/bin/python -c "import app.cli.serve, app.cli.check.command, app.runtime.account, \
       app.console.console, app.canary.canary, sqlite3, http.client" \
    && install -d -o 65532 -g 65532 -m 0700 /data
# Overrides a settings file: in a container, nothing reaches loopback.
ENV PATH=/opt/receiver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BCL_LISTEN=0.0.0.0:8000 \
    BCL_ADMIN_LISTEN=0.0.0.0:9000 \
    BCL_DATA_DIR=/data
USER 65532:65532
WORKDIR /data
# The journal: logouts that were answered with 200 while Redis was down. Keep it.
VOLUME /data
# 8000 for providers, behind TLS. 9000 for operators only.
EXPOSE 8000 9000
# Liveness, not readiness: a restart does not repair Redis. http.client uses no proxy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['BCL_ADMIN_LISTEN'].rpartition(':')[2]), timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
# The server is process 1, so that it receives SIGTERM.
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
