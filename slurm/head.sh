#!/bin/bash
# Snakemake itself as a job, where nothing may run on the login node for hours:
#   sbatch slurm/head.sh --configfile mine.yaml
# It needs little (one CPU), but as much time as the whole run: set --time to what your partition allows.        SITE
# At the time limit Slurm sends SIGINT ten minutes before the end (--signal): Snakemake then cancels its jobs and ends
# cleanly, no lock is left, and the same command goes on where it stopped. Without it, a killed head job leaves its
# jobs running and the folder locked (docs/cluster.md, "After a crash").
# The partition for long jobs, and the account where your site wants one (take one # away):              SITE
#SBATCH --partition=cpu
##SBATCH --account=my_account
#SBATCH --job-name=normct
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4000
#SBATCH --time=7-00:00:00
#SBATCH --signal=B:INT@600
#SBATCH --output=normct-%j.out

[ -f .venv/bin/activate ] && . .venv/bin/activate
set -m  # else bash starts Snakemake deaf to SIGINT
snakemake --profile slurm "$@" &
child=$!
# the shell gets Slurm's signal, Snakemake has to
trap 'kill -INT "$child"' INT TERM
wait "$child"
status=$?
# the trap ends the first wait; Snakemake is still cancelling its jobs
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  status=$?
done
exit "$status"
