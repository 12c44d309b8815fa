"""One attack on one module, without a defense: the nearest error of each image."""

import torch

import sparring

images = sparring.load_data("mnist5k:limit=20")
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10)).eval()
found = sparring.attack("ddn:steps=50").run(network, images.x, images.y)
print(f"fooled {int(found.success.sum())} of {len(images)}, median L2 {found.distance.median():.3f}")
