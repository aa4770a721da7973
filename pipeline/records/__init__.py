"""What a run did: its records, the products that its stages hand on, digests, and its log."""
