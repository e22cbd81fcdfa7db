"""The process that runs jobs of the queue, one for each device, and the one that starts it again when it ends.

Nothing here imports torch before the first job.
"""
