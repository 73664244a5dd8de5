"""Speed and memory of each system, as ratios in one run. Each script writes `results/<name>.json` and a plot."""
