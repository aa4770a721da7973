"""Student -> networks for dense tasks, fine-tuned and tested (Yang et al. 2022, Table 4)."""
