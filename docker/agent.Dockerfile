# The agent, in flavours. Built from the repository's root:
#   docker build -f docker/agent.Dockerfile --target infer -t lorikeet/agent:infer .
#   docker build -f docker/agent.Dockerfile --target train -t lorikeet/agent:train .
# infer has no torch: llama.cpp, compiled here unless ./wheels holds a wheel of it for this
# processor. train has torch for the CPU (TORCH_INDEX).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_CACHE_DIR=/var/cache/pip
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python3 -m venv /opt/lorikeet

FROM tools AS build-infer
COPY .ci .ci
RUN --mount=type=bind,source=.,target=/context --mount=type=cache,target=/var/cache/pip \
    export LORIKEET_WHEELS=/build/wheels; at=$(bash .ci/llama --where); mkdir -p "$at"; \
    if ! cp /context/wheels/llama_cpp_python-*"$(uname -m)".whl "$at" 2>/dev/null; then \
      apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ make cmake git; \
    fi; \
    bash .ci/llama /opt/lorikeet/bin/python3 && /opt/lorikeet/bin/python3 -c 'import llama_cpp'
COPY wire wire
COPY edge_agent edge_agent
COPY hub/__init__.py hub/__init__.py
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/lorikeet/bin/pip install -c constraints.txt ".[llama,enrol]"
COPY docker/slim.sh ./
RUN sh slim.sh /opt/lorikeet && rm -rf /opt/lorikeet/lib/python3*/site-packages/hub /opt/lorikeet/bin/lorikeet-hub \
    && /opt/lorikeet/bin/python3 -B -c 'import llama_cpp, edge_agent.agent, edge_agent.inference.tasks'

FROM tools AS build-train
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/lorikeet/bin/pip install -c constraints.txt ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} torch
COPY wire wire
COPY edge_agent edge_agent
COPY hub/__init__.py hub/__init__.py
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/lorikeet/bin/pip install -c constraints.txt ".[train,enrol]"
COPY docker/slim.sh ./
RUN sh slim.sh /opt/lorikeet && rm -rf /opt/lorikeet/lib/python3*/site-packages/hub /opt/lorikeet/bin/lorikeet-hub \
    && /opt/lorikeet/bin/python3 -B -c 'import torch, transformers, peft, edge_agent.agent'

FROM ${BASE} AS agent
LABEL org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 lorikeet \
    && useradd --uid 10001 --gid 10001 --home-dir /state --no-create-home --shell /usr/sbin/nologin lorikeet \
    && mkdir -p /state /data && chown 10001:10001 /state
ENV PATH=/opt/lorikeet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/state XDG_CACHE_HOME=/state/cache LORIKEET_STATE=/state/agent
USER 10001:10001
WORKDIR /state
VOLUME /state
# The agent ends itself when it is stuck, so that Docker starts it again; this only shows it.
HEALTHCHECK --interval=60s --timeout=30s --start-period=120s --retries=3 \
    CMD ["python3", "-P", "-m", "edge_agent.doctor.health", "/state/agent"]
ENTRYPOINT ["lorikeet-agent"]
CMD ["run", "--help"]

FROM agent AS infer
LABEL org.opencontainers.image.title="Lorikeet agent, without torch"
COPY --from=build-infer /opt/lorikeet /opt/lorikeet

FROM agent AS train
LABEL org.opencontainers.image.title="Lorikeet agent"
COPY --from=build-train /opt/lorikeet /opt/lorikeet
