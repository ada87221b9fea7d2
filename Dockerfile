# The challenge's container: `docker run ... /bin/bash -c "sh predict.sh"` in /workspace.
#
#     make docker                                  # the embedded segmenter, no GPU needed
#     make docker PRESET=coreset                   # with SAM-Med2D, from weights/
#     make docker PRESET=cpu BUILD_ARGS="--build-arg TORCH_BACKEND=cpu"   # MedSAM2, without CUDA
#     make docker-serve                            # the same with `gamt serve`, and runs that
#
# Stages: tools; the checkpoint, whose lack shows at once; dependencies, which change seldom; the
# page of `gamt annotate`, where the server is; the project, which changes often; and the image, which takes only what runs.

ARG BASE_IMAGE=debian:bookworm-slim
ARG PRESET=default

FROM ${BASE_IMAGE} AS tools
ENV UV_LINK_MODE=copy UV_NO_CACHE=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip \
    && python3 -m pip install --quiet --no-cache-dir --break-system-packages \
        hatch-fancy-pypi-readme hatchling numpy platformdirs uv
WORKDIR /workspace

FROM tools AS checkpoint
ARG PRESET
COPY src src
COPY weights weights
# Where it is missing, this fails with the command that fetches it. Its mode isn't copied: the file
# may be its owner's alone, and the container runs as any user.
RUN mkdir /checkpoint && PYTHONPATH=src python3 -c "\
import shutil, sys; \
from gamt.segmenters.checkpoints import find; \
from gamt.settings import PRESETS, PRESET_SEGMENTERS; \
'$PRESET' in PRESETS or sys.exit('PRESET=$PRESET: expected one of ' + ', '.join(PRESETS)); \
name = PRESET_SEGMENTERS.get('$PRESET'); \
sys.excepthook = lambda kind, error, trace: print(error, file=sys.stderr); \
path = name and find(name); \
path and shutil.copyfile(path, '/checkpoint/' + path.name)"

FROM tools AS dependencies
ARG PRESET
# "yes" adds what `gamt serve` needs.
ARG SERVER=
# With "cpu" torch comes from PyTorch's own index, knows no GPU and takes a tenth of the space.
ARG TORCH_BACKEND=
COPY pyproject.toml uv.lock ./
# All presets but the default need torch. Of what comes with it go: the compiler behind
# torch.compile, what serves several GPUs, headers and static libraries.
RUN set -eu; \
    case "$PRESET" in \
        default) extra= modules= ;; \
        memory | cpu) extra=hub modules="torch, transformers.models.sam2_video.modeling_sam2_video" ;; \
        *) extra=sam modules="segment_anything, torch" ;; \
    esac; \
    uv export --quiet --locked --no-default-groups --no-emit-project --no-hashes \
        ${extra:+--extra "$extra"} \
        $([ -z "$SERVER" ] || echo --extra server) --output-file requirements.txt; \
    [ "$TORCH_BACKEND" != cpu ] || sed -i -E '/^(cuda|nvidia|triton)/d' requirements.txt; \
    uv venv --quiet --python /usr/bin/python3 .venv; \
    uv pip install --quiet --python .venv --requirements requirements.txt \
        ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"}; \
    cd .venv/lib/python3.11/site-packages; \
    rm -rf triton torch/include nvidia/*/include nvidia/*/lib/libcusolverMg.so* \
        nvidia/*/lib/libnvperf_*; \
    find . -name '*.a' -delete; \
    find . -type d -name tests -prune -exec rm -rf {} +; \
    python3 -m compileall -q -j 0 -x torch/testing/_internal .; \
    [ -z "$modules" ] || /workspace/.venv/bin/python -c "import $modules"

FROM tools AS page
# The page of `gamt annotate` comes with the server; without one, this is an empty folder.
ARG SERVER=
WORKDIR /page
# Node trusts whom the system trusts, as pip and uv do.
ENV PATH=/node/bin:$PATH NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
COPY pyproject.toml uv.lock src/gamt/server/page/package.json src/gamt/server/page/package-lock.json ./
RUN [ -z "$SERVER" ] || { \
        UV_PROJECT_ENVIRONMENT=/node uv sync --quiet --locked --only-group node --python /usr/bin/python3 \
        && npm ci --loglevel=error --ignore-scripts --no-audit --no-fund; }
COPY src/gamt/server/page .
RUN mkdir -p dist && { [ -z "$SERVER" ] || npm run --silent build; }

FROM dependencies AS project
COPY pyproject.toml README.md LICENSE ./
COPY weights/manifest.toml weights/manifest.toml
COPY src src
COPY --from=page /page/dist src/gamt/server/page/dist
RUN python3 -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
    && uv pip install --quiet --python .venv --no-deps --target /project /wheel/*.whl \
    && python3 -m compileall -q /project

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*
WORKDIR /workspace
COPY --from=dependencies /workspace/.venv .venv
ARG PRESET
# Any user may run it, on a root that can't be written to.
ENV PATH=/workspace/.venv/bin:$PATH \
    GAMT_PRESET=${PRESET} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=checkpoint /checkpoint weights
COPY --from=project /project .venv/lib/python3.11/site-packages
COPY predict.sh .
CMD ["sh", "predict.sh"]
