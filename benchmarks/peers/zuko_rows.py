"""Trains a flow of Zuko on the rows of `benchmarks.tables`, and prints the NLL of each test row as JSON."""

import json
import sys
import time

import numpy as np
import torch
import zuko

FLOWS = {
  'RealNVP': lambda d: zuko.flows.RealNVP(d, transforms=8, hidden_features=(128, 128)),
  'NSF': lambda d: zuko.flows.NSF(d, transforms=4, hidden_features=(128, 128)),
}

task, began = json.loads(sys.argv[1]), time.perf_counter()
data = np.load(task['data'])
mean, std = data['rows'].mean(axis=0), data['rows'].std(axis=0)
rows, test = (torch.tensor((data[name] - mean) / std) for name in ('rows', 'test'))
torch.manual_seed(0)
flow = FLOWS[task['flow']](rows.shape[1])
optimizer = torch.optim.Adam(flow.parameters(), lr=task['learning_rate'])
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task['steps'])
for _ in range(task['steps']):
  loss = -flow().log_prob(rows[torch.randint(len(rows), (task['batch'],))]).mean()
  optimizer.zero_grad()
  loss.backward()
  optimizer.step()
  schedule.step()
with torch.no_grad():
  nll = -flow().log_prob(test).numpy() + np.log(std).sum()
parameters = sum(p.numel() for p in flow.parameters())
print(json.dumps({'parameters': parameters, 'nll': nll.tolist(), 'seconds': time.perf_counter() - began}))
