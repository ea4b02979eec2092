# The worker, the producers and all commands, from the pinned requirements. `make up` builds it.
FROM python:3.13.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/build.txt requirements/producer.txt requirements/processor.txt requirements/auditor.txt requirements/
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements/build.txt
RUN python -m venv /opt/sealtrail && /opt/sealtrail/bin/pip install --require-hashes \
        -r requirements/producer.txt -r requirements/processor.txt -r requirements/auditor.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY contract contract
COPY producers producers
COPY processors processors
COPY auditors auditors
COPY deploy deploy
COPY schemas schemas
COPY samples samples
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/sealtrail/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/sealtrail/bin/pip uninstall --yes pip

FROM python:3.13.13-slim-bookworm
COPY --from=build /opt/sealtrail /opt/sealtrail
# Compose runs it as any user of group 0: its folders are that group's.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /var/lib/sealtrail sealtrail \
    && install -d -o 10001 -g 0 -m 0770 /var/lib/sealtrail /var/lib/sealtrail/trust /var/lib/sealtrail/keys
ENV PATH=/opt/sealtrail/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SEALTRAIL_STATE_DIR=/var/lib/sealtrail
USER 10001:0
WORKDIR /var/lib/sealtrail
ENTRYPOINT []
CMD ["sealtrail", "--help"]
