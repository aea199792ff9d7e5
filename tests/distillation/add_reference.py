"""ADD's losses written from their definitions, in NumPy and float64, element by element."""

import numpy as np


def energies(difference, transform):
    """Return |F(difference)|^2 of one sample, frequency by frequency, ``(C, H, W)``."""
    channels, height, width = difference.shape
    y, x = np.arange(height)[:, None], np.arange(width)
    result = np.zeros(difference.shape)
    for c in range(channels):
        for u in range(height):
            for v in range(width):
                if transform == "fft":
                    wave = np.exp(-2j * np.pi * (u * y / height + v * x / width))
                    value = (difference[c] * wave).sum() / (height * width)
                else:
                    wave = np.cos(np.pi * (y + 0.5) * u / height)
                    wave = wave * np.cos(np.pi * (x + 0.5) * v / width)
                    norm = np.sqrt((1 if u == 0 else 2) / height * (1 if v == 0 else 2) / width)
                    value = norm * (difference[c] * wave).sum() / np.sqrt(height * width)
                result[c, u, v] = abs(value) ** 2
    return result


def weights(energy, gamma, relative):
    """Return the weight of each frequency of one sample, ``(H, W)``."""
    mean = energy.mean(0)
    if not relative:
        return np.exp(gamma * mean)
    weight = np.exp(gamma * mean / mean.mean())
    return weight / weight.mean()


def frequency_attention(student, teacher, gamma, transform, relative, given=None):
    """Return L_FR; with ``given``, the constant weights to take, one ``(H, W)`` per sample."""
    total = 0.0
    for n, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        energy = energies(theirs - ours, transform)
        weight = weights(energy, gamma, relative) if given is None else given[n]
        total += (energy * weight).sum()
    return total / len(student)


def histogram(sample, direction):
    """Return the masses of A^2 / |A|^2 in C / 2 slabs along one direction."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in sample.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    projected = np.tensordot(direction, points, 1)
    edges = np.linspace(projected.min(), projected.max(), max(len(sample) // 2, 1) + 1)
    masses = sample**2 / max((sample**2).sum(), 1e-6)
    slabs = [sum(p >= edge for edge in edges[1:-1]) for p in projected.flat]
    result = np.zeros(len(edges) - 1)
    for slab, mass in zip(slabs, masses.flat, strict=True):
        result[slab] += mass
    return result


def multi_view(student, teacher, labels, directions, margin):
    """Return the two parts of L_MV, means over the directions."""
    views = []
    for direction in directions:
        ours = [histogram(sample, direction) for sample in student]
        theirs = [histogram(sample, direction) for sample in teacher]
        near = np.mean([((a - b) ** 2).sum() for a, b in zip(ours, theirs, strict=True)])
        views.append((near, contrastive(ours, theirs, labels, margin)))
    return np.mean(views, 0)


def contrastive(ours, theirs, labels, margin):
    """Return both directions of the class-contrastive term; 0 for one class."""
    if len(set(labels)) == 1:
        return 0.0
    total = 0.0
    for from_, to in ((ours, theirs), (theirs, ours)):
        for i, a in enumerate(from_):
            distances = [((a - b) ** 2).sum() for b in to]
            pairs = list(zip(distances, labels, strict=True))
            total += np.mean([d for d, y in pairs if y == labels[i]]) / len(from_)
            others = [max(0.0, margin - d) for d, y in pairs if y != labels[i]]
            total += np.mean(others) / len(from_)
    return total


def slope(function, x, step=1e-3):
    """Return the gradient of a scalar function of an array by Richardson's central differences."""
    result = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        parts = []
        for h in (step, step / 2):
            values = []
            for sign in (1, -1):
                moved = x.copy()
                moved[place] += sign * h
                values.append(function(moved))
            parts.append((values[0] - values[1]) / (2 * h))
        result[place] = (4 * parts[1] - parts[0]) / 3
    return result
