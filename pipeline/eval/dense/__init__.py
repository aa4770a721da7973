"""Fine-tuning on dense tasks: detection, segmentation, normals (Yang et al. 2022, Table 4)."""
