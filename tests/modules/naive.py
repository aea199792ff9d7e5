"""One iteration of Sec. 4.2 written down naively: a backward pass per loss, autograd through R."""

import torch
from torch import Tensor
from torch.nn import functional


def rotated(z: Tensor, matrix: Tensor, layout: str) -> Tensor:
    """Return m_k = R_k z for one layout, image by image."""
    rows = []
    for image in z:
        d = len(matrix)
        if layout == "channels":
            turned = torch.einsum("ij,jhw->ihw", matrix, image[:d])
            rows.append(torch.cat([turned, image[d:]]))
            continue
        flat, parts = image.reshape(-1), []
        chunks = len(flat) // d if layout == "blocks" else 1
        for chunk in range(chunks):
            parts.append(matrix @ flat[chunk * d : (chunk + 1) * d])
        rows.append(torch.cat([*parts, flat[chunks * d :]]).reshape(image.shape))
    return torch.stack(rows)


def distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the mean over the batch of | a/|a| - b/|b| |^2, Eq. 6 and 7."""
    pairs = zip(ours, theirs, strict=True)
    return torch.stack([(a / a.norm() - b / b.norm()).square().sum() for a, b in pairs]).mean()


def iteration(student, distiller, teacher, batch, lr):
    """Return gradients of student and projectors by name, and both rotations after Eq. 16.

    ``student`` and ``distiller`` are copies of those before the iteration; ``lr`` is eta_R.
    """
    layout, alphas = distiller.rotation.layout, distiller.weights
    matrices = {b: m.detach().clone() for b, m in distiller.rotation.matrices().items()}
    output = student(batch["image"])
    z = output.maps[32]
    maps = {"rgb": teacher.rgb[32], "frequency": teacher.frequency[32]}
    loss = {"ce": functional.cross_entropy(output.logits, batch["label"])}
    m = {branch: rotated(z, matrix, layout) for branch, matrix in matrices.items()}
    for branch in matrices:
        theirs = distiller.teacher_project.get_submodule(branch)(maps[branch])
        loss[branch] = distance(distiller.project[branch](m[branch]), theirs)

    at_m = {b: torch.autograd.grad(loss[b], m[b], retain_graph=True)[0] for b in matrices}
    for name, value in loss.items():
        (alphas.get(name, 1.0) * value).backward(retain_graph=True)
    gradients = {
        f"{part}.{name}": parameter.grad
        for part, module in (("student", student), ("distiller", distiller))
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }

    # Eq. 13 to 16, the product R^T grad_m as the pullback of the rotation itself.
    size = distiller.rotation.rotated

    def at_z(branch: str, matrix: Tensor) -> Tensor:
        return rotated(at_m[branch], matrix.T, layout).flatten(1)[:, :size]

    v = {branch: at_z(branch, matrix).detach() for branch, matrix in matrices.items()}
    goal = (v["rgb"] + v["frequency"]) / 2
    after = {}
    for branch, matrix in matrices.items():
        r = matrix.clone().requires_grad_()
        towards = -functional.cosine_similarity(at_z(branch, r), goal, eps=1e-30).mean()
        gradient = matrix.T @ torch.autograd.grad(towards, r)[0]
        a = (gradient - gradient.T) / 2
        x = -lr * a * len(a) / a.norm()
        eye = torch.eye(len(a), dtype=a.dtype)
        after[branch] = matrix @ torch.linalg.inv(eye - x / 2) @ (eye + x / 2)
    return gradients, after
