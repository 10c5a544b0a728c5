"""Stage two as the commands see it: plan, run, score. Test labels are opened last, in `score`."""
