#!/bin/bash
# Pre-train STU-Net-H on several nodes of a Slurm cluster. All nodes must see the same STUNET_HOME.
#
#   sbatch examples/slurm_pretrain.sh
#
# Prepare the dataset once beforehand: stunet prepare -d 501 --size huge --plan published
#SBATCH --job-name=stunet-pretrain
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# this script is told ten minutes before the time is up
#SBATCH --signal=B:TERM@600

set -u
DATASET=501 FOLD=all SIZE=huge
export STUNET_HOME=${STUNET_HOME:?set it to a folder that all nodes see}
# how long torchrun waits for a training that was told to stop; its own 30 s may not do to save
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=540

FOLDS="$STUNET_HOME"/results/Dataset${DATASET}_*/STUNetTrainer_${SIZE}__STUNetPublishedPlans_${SIZE}__3d_fullres/fold_$FOLD
RESUME=()
if compgen -G "$FOLDS/stunet_checkpoint*" > /dev/null; then RESUME=(--resume); fi

# told to stop, it passes that on; all processes save, and the job goes on when it is its turn again
STOPPED=no
trap 'STOPPED=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM

HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m stunet train -d $DATASET -f $FOLD --size $SIZE --plan published --recipe pretrain \
    --batch-size $((SLURM_NNODES * SLURM_GPUS_ON_NODE)) --workers 6 ${RESUME[@]+"${RESUME[@]}"} &
wait $!
code=$?
if [ $STOPPED = yes ]; then
    wait # the signal ended the first one; this one waits until all have saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
