"""The losses of Table 3's methods in NumPy, from their definitions, and derivatives of them.

Everything is analytic, so that one evaluation at ``x + ih`` gives a derivative to the last digit.
"""

import numpy as np
import torch

STEP = 1e-40


def derivative(loss, arrays):
    """Return the gradient of ``loss(*arrays)`` in every array, by complex steps."""
    found = []
    for number, array in enumerate(arrays):
        gradient = np.zeros(array.shape)
        for place in np.ndindex(*array.shape):
            moved = [np.array(a, dtype=complex) for a in arrays]
            moved[number][place] += 1j * STEP
            gradient[place] = np.imag(loss(*moved)) / STEP
        found.append(gradient)
    return found


def pool(maps, grid):
    """Adaptive average pooling: cell i of n covers floor(i H / n) to ceil((i + 1) H / n)."""
    out = np.zeros((*maps.shape[:2], *grid), dtype=maps.dtype)
    for i, j in np.ndindex(*grid):
        (top, bottom), (left, right) = (
            (k * size // n, -((k + 1) * size // -n))
            for k, size, n in ((i, maps.shape[2], grid[0]), (j, maps.shape[3], grid[1]))
        )
        out[:, :, i, j] = maps[:, :, top:bottom, left:right].mean(axis=(2, 3))
    return out


def one_grid(a, b):
    grid = tuple(np.minimum(a.shape[2:], b.shape[2:]))
    return pool(a, grid), pool(b, grid)


def length(vector):
    return np.sqrt((vector * vector).sum())


def attention_transfer(student, teacher):
    student, teacher = one_grid(student, teacher)
    total, (batch, _, height, width) = 0.0, student.shape
    for s, t in zip(student, teacher, strict=True):
        q = [sum(channel * channel for channel in f) / len(f) for f in (s, t)]
        q = [m / length(m) for m in q]
        total = total + ((q[0] - q[1]) ** 2).sum()
    return total / (batch * height * width)


def similarity_preserving(student, teacher):
    batch, g = len(student), []
    for maps in (student, teacher):
        rows = np.array([[(a * b).sum() for b in maps] for a in maps])
        g.append(np.array([row / length(row) for row in rows]))
    return ((g[1] - g[0]) ** 2).sum() / batch**2


def pkt(student, teacher, eps=1e-7):
    batch, p = len(student), []
    for maps in (student, teacher):
        vectors = maps.mean(axis=(2, 3)) if maps.ndim == 4 else maps
        units = [v / (length(v) + eps) for v in vectors]
        kernel = np.array([[((a * b).sum() + 1) / 2 for b in units] for a in units])
        p.append(np.array([row / row.sum() for row in kernel]))
    total = 0.0
    for i, j in np.ndindex(batch, batch):
        total = total + p[1][i, j] * np.log((p[1][i, j] + eps) / (p[0][i, j] + eps))
    return total / batch**2


def hinton(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        ours, theirs = (np.exp(z / temperature) / np.exp(z / temperature).sum() for z in (s, t))
        for k in range(len(s)):
            total = total + theirs[k] * (np.log(theirs[k]) - np.log(ours[k]))
    return temperature**2 * total / len(student)


def rectified(x):
    return x * (x.real > 0)


def convolved(maps, weight):
    """A 1x1 convolution: weight (out, in)."""
    return np.einsum("oc,bchw->bohw", weight, maps)


def hint(student, teacher, weight, scale, shift, relu=False):
    """Convolution, BN with the statistics of the batch, perhaps ReLU, mean squared error."""
    student, teacher = one_grid(student, teacher)
    x = convolved(student, weight)
    for c in range(x.shape[1]):
        centred = x[:, c] - x[:, c].mean()
        x[:, c] = scale[c] * centred / np.sqrt((centred * centred).mean() + 1e-5) + shift[c]
    x = rectified(x) if relu else x
    return ((x - teacher) ** 2).sum() / teacher.size


def variational(student, teacher, first, second, third, spread):
    student, teacher = one_grid(student, teacher)
    mean = convolved(student, first)
    mean = convolved(rectified(mean), second)
    mean = convolved(rectified(mean), third)
    total = 0.0
    for c in range(teacher.shape[1]):
        variance = np.log(1 + np.exp(spread[c])) + 1e-5
        residual = (mean[:, c] - teacher[:, c]) ** 2 / variance
        total = total + ((residual + np.log(variance)) / 2).sum()
    return total / teacher.size


def assert_close(found, expected, relative):
    found, expected = (np.asarray(x) for x in (found, expected))
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, rtol=relative, atol=relative * scale * 1e-2)


def assert_loss_and_gradient(loss, naive, tensors):
    """Compare a loss of float64 tensors, and its whole gradient, with a NumPy one: 1e-9, 1e-8."""
    tensors = [t.detach().clone().requires_grad_() for t in tensors]
    arrays = [t.detach().numpy() for t in tensors]
    value = loss(*tensors)
    assert value.dtype == torch.float64
    assert_close(value.item(), naive(*arrays), 1e-9)
    gradients = torch.autograd.grad(value, tensors)
    for ours, theirs in zip(gradients, derivative(naive, arrays), strict=True):
        assert_close(ours.numpy(), theirs, 1e-8)
