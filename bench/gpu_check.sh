#!/bin/sh
# All that a GPU has to prove, in one call: tests, prediction, training. One file gets the results. It is meant to take
# ten minutes; on a GPU it was never run.
#
#   sh bench/gpu_check.sh [-p PYTHON] [-w WHEELS] [-d cuda|cpu] [-s "small base large"] [-o gpu_results.md]
#
# PYTHON needs torch; for CUDA one that suits the GPU's driver. Without access to a registry, WHEELS is a folder with the
# wheels that PYTHON lacks (python -m pip download -d WHEELS -c constraints.txt '.[train]' --group dev, without torch and
# what belongs to it). They are put into a temporary folder, and PYTHON itself stays as it is.
# On a CPU the same road is tried with little work: sh bench/gpu_check.sh -d cpu -s tiny
set -u
cd "$(dirname "$0")/.."

python=python3 wheels= device=cuda sizes="small base large" results=gpu_results.md
while getopts p:w:d:s:o: option; do
    case $option in
        p) python=$OPTARG ;;
        w) wheels=$OPTARG ;;
        d) device=$OPTARG ;;
        s) sizes=$OPTARG ;;
        o) results=$OPTARG ;;
        *) exit 2 ;;
    esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -n "$wheels" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$work/packages" "$wheels"/*.whl || exit 2
fi
PYTHONPATH="$PWD/src:$PWD:$work/packages${PYTHONPATH:+:$PYTHONPATH}"
STUNET_TEST_DEVICE=$device
STUNET_HOME=$work/home
export PYTHONPATH STUNET_TEST_DEVICE STUNET_HOME

if [ "$device" = cuda ]; then
    predict="--precisions float32 bfloat16 float16" train=
else
    predict="--precisions float32 --slices 24 --classes 5" train="--rounds 1 --steps 1 --edge 32"
fi

stage() { # a title and a command: its output goes to the screen as it comes, and to the results
    title=$1
    shift
    printf '\n## %s\n\n    %s\n\n' "$title" "$*"
    "$@" 2>&1 || echo "$title" >> "$work/failed"
}

check() {
    echo "# Results of bench/gpu_check.sh, $(date -u +%Y-%m-%d)"
    stage "Machine" "$python" -c "
import platform, torch
print('Python', platform.python_version(), '| torch', torch.__version__, '| CUDA', torch.version.cuda)
if '$device' == 'cuda':
    gpu = torch.cuda.get_device_properties(0)
    print(gpu.name, '|', round(gpu.total_memory / 2**30), 'GiB |', 'cuDNN', torch.backends.cudnn.version())"
    stage "Tests" "$python" -m pytest -p no:cacheprovider -m gpu -rs tests/gpu
    # shellcheck disable=SC2086  # several words each
    stage "Prediction" "$python" bench/gpu.py --device "$device" --sizes $sizes $predict --cache "$work/cache"
    # shellcheck disable=SC2086
    stage "Training" "$python" bench/training.py --synthetic --device "$device" --size $sizes --step-only $train
}

check | tee "$results.partial"
mv "$results.partial" "$results"
if [ -f "$work/failed" ]; then
    echo "Failed: $(tr '\n' ' ' < "$work/failed")(see $results)" >&2
    exit 1
fi
