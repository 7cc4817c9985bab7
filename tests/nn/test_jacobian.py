import torch

from scvi_neuronedit.nn import Autoencoder, mean_jacobian


def test_it_is_the_mean_of_the_jacobians():
    torch.manual_seed(0)
    network = Autoencoder(5, hidden=(4,), n_latent=3)
    z = torch.randn(6, 3)
    each = [torch.autograd.functional.jacobian(lambda c: network(c[None], after="code")[0], cell) for cell in z]
    torch.testing.assert_close(
        mean_jacobian(lambda c: network(c, after="code"), z).detach(), torch.stack(each).mean(dim=0)
    )
