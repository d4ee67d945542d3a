"""Make the checkpoints: corpus → tokens → mix → pretrain → export."""
