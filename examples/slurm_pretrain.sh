#!/bin/bash
# Pre-train STU-Net-H on several nodes of a Slurm cluster. All nodes must see the same STUNET_HOME.
#
#   sbatch slurm_pretrain.sh
#
# Prepare the dataset first: stunet prepare -d 501 --size huge --plans published
#SBATCH --job-name=stunet-pretrain
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Slurm sends SIGTERM to this script ten minutes before the time limit.
#SBATCH --signal=B:TERM@600

set -u
DATASET=501 FOLD=0 SIZE=huge
export STUNET_HOME=${STUNET_HOME:?set it to a folder that all nodes see}
# Seconds that torchrun waits for processes to save after SIGTERM. Its default of 30 can be too short.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=540

# Resume if there is a checkpoint.
FOLDS="$STUNET_HOME"/results/Dataset${DATASET}_*/STUNetTrainer_${SIZE}__STUNetPublishedPlans_${SIZE}__3d_fullres/fold_$FOLD
RESUME=()
if compgen -G "$FOLDS/stunet_checkpoint*" > /dev/null; then RESUME=(--resume); fi

# On SIGTERM, pass it to all processes. They save, and the job is put back into the queue.
STOPPED=no
trap 'STOPPED=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM

HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD:29500" --rdzv-id "$SLURM_JOB_ID" \
    -m stunet train -d $DATASET -f $FOLD --size $SIZE --plans published --recipe pretrain \
    --batch-size $((SLURM_NNODES * SLURM_GPUS_ON_NODE)) --workers 6 ${RESUME[@]+"${RESUME[@]}"} &
wait $!
code=$?
if [ $STOPPED = yes ]; then
    wait # SIGTERM ended the first wait. This one lasts until all processes have saved.
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
