#!/bin/sh
# Takes out of a virtual environment what no process of ours opens: pip, tests, headers, bytecode.
set -eu
venv=$1
site=$(echo "$venv"/lib/python3*/site-packages)
"$venv"/bin/python3 -m pip freeze --all > "$venv/packages.txt"
rm -rf "$site"/pip "$site"/pip-*.dist-info "$site"/setuptools* "$site"/pkg_resources "$venv"/bin/pip*
find "$site" -type d \( -name __pycache__ -o -name tests -o -name test \) -prune -exec rm -rf {} +
rm -rf "$site"/torch/include "$site"/torch/share "$site"/torch/test \
  "$site"/*/include/ggml* "$site"/llama_cpp/include "$site"/include
[ ! -d "$site"/torch/bin ] || find "$site"/torch/bin -type f ! -name torch_shm_manager -delete  # that one is wanted at import
find "$site" -name '*.a' -delete
find "$site" -name '*.pyi' -delete
