# The receiver, and nothing that is not needed to run it.
#
#   docker build -t backchannel-logout-receiver .
#
# Where the network has a certificate authority or a package index of its own, the build takes the
# machine's settings as secrets; they are mounted for one command and stay out of every layer:
#
#   docker build --secret id=pip.conf,src=/etc/pip.conf \
#     --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt --build-arg PIP_CERT=/run/secrets/ca .
#
# With traces (OpenTelemetry, `otel = true`): --build-arg LOCK=requirements/otel.lock

# The newest Python that the tests run on (.github/workflows/ci.yml), by its digest: a tag can move.
# A newer one: `docker buildx imagetools inspect python:3.14-slim` prints it.
ARG BASE=python:3.14-slim@sha256:ce40764625a4ff50df3548277632e7f96c4e77fe75fa848aae9885476e7df5a4

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
ARG PIP_CERT
ARG LOCK=requirements/runtime.lock
WORKDIR /src
# Two environments: what builds, and what runs. The one that runs has no pip in it.
RUN python -m venv /opt/build && python -m venv --without-pip /opt/receiver
COPY requirements/build.lock requirements/runtime.lock requirements/otel.lock requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca \
    /opt/build/bin/pip install --require-hashes -r requirements/build.lock \
    && /opt/build/bin/pip --python /opt/receiver install --require-hashes -r "$LOCK"
COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY app app
# No network from here on. Bytecode that is never checked against its source: the tree is
# read-only when it runs, and a start must not compile.
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
# What the base brings for installing goes. Then one import writes the bytecode of the standard
# library's modules in use, which the base comes without.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip \
       /usr/local/lib/python3*/site-packages/pip* \
    && /opt/receiver/bin/python -c "import app.cli.serve, app.cli.check, app.runtime.account, \
       app.console.console, app.canary.canary, sqlite3, http.client" \
    && install -d -o 65532 -g 65532 -m 0700 /data
# The environment wins over a settings file: in a container, loopback is nobody's address.
ENV PATH=/opt/receiver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BCL_LISTEN=0.0.0.0:8000 \
    BCL_ADMIN_LISTEN=0.0.0.0:9000 \
    BCL_DATA_DIR=/data
USER 65532:65532
WORKDIR /data
# The journal: what got 200 while Redis was away. Keep it.
VOLUME /data
# 8000 for providers, behind TLS. 9000 for operators, never for anybody else.
EXPOSE 8000 9000
# Alive, not ready: restarting a container mends no Redis. http.client asks no proxy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['BCL_ADMIN_LISTEN'].rpartition(':')[2]), timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
# The server is process 1 itself, so that SIGTERM reaches it.
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
