"""The contract between stages: tars of samples with a manifest. Knows no GAN, training or Ray."""
