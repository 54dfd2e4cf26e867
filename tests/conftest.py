"""What holds for every test."""

import os

# read once, when ITK starts: as in the pipeline, where each job is one thread
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
