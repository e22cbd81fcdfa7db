"""What training pipelines share: photos and captions, buckets, losses, rates, files and states."""
