#!/bin/sh
# Segments every case of a folder:
#
#     sh predict.sh [INPUTS [OUTPUTS]]
#
# without arguments the folders that the challenge mounts. The environment's GAMT_SEGMENTER,
# GAMT_WEIGHTS, GAMT_DEVICE, GAMT_DTYPE, GAMT_PRESET, GAMT_CACHE and GAMT_<SETTING> choose how; see
# gamt predict --help.

set -eu

here=$(dirname -- "$0")
python=$here/.venv/bin/python
[ -x "$python" ] || python=python3

# exec, because the clock of the time limit starts with this process. -P keeps whatever lies in
# the working directory from being imported.
exec "$python" -P -m gamt predict "${1:-/workspace/inputs}" "${2:-/workspace/outputs}"
