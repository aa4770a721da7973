"""The contract between stages: tars of samples with a verified manifest. Knows no GAN, no training,
no Ray.
"""
