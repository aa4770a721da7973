"""Many runs as one question: trainings side by side, and the pages they end in."""
