"""How fast it is: cases of ours and honest baselines, timed side by side in one process."""
