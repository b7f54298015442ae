"""Vision transformers with timm's keys: ViT-S/16 and ViT-B/16.

In: images_BCHW, float32. Out: logits_BC. State-dict keys and shapes are those of timm's
`vit_small_patch16_224` and `vit_base_patch16_224` (`cls_token`, `pos_embed`,
`blocks.0.attn.qkv.weight`, ...). "An image is worth 16x16 words" (Dosovitskiy et al. 2020), section
3.1, with the smaller width of "Training data-efficient image transformers" (Touvron et al. 2020).

    network = VisionTransformer(width=384, num_heads=6, num_classes=1000)
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network import Network

PATCH, SIDE, DEPTH = 16, 224, 12  # pixels of a patch and of the usual image; blocks
GRID = SIDE // PATCH
EXPANSION = 4
NORM_EPSILON = 1e-6  # not torch's: published weights belong to it


class PatchEmbed(nn.Module):
    """Patches of 16x16 pixels as vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        patches_BDHW: Tensor = self.proj(images_BCHW)
        return patches_BDHW


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        # H is the heads, E the width of one; timm's rows of `qkv` are in this order.
        qkv_3BHNE = self.qkv(x_BND).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y_BHNE = functional.scaled_dot_product_attention(*qkv_3BHNE.unbind(0))
        y_BND: Tensor = self.proj(y_BHNE.transpose(1, 2).flatten(2))
        return y_BND


class Mlp(nn.Module):
    """Two linear layers of each token by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        y_BND: Tensor = self.fc2(self.act(self.fc1(x_BND)))
        return y_BND


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Mlp(width)

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.attn(self.norm1(x_BND))
        y_BND: Tensor = self.mlp(self.norm2(x_BND))
        return x_BND + y_BND


class VisionTransformer(Network):
    """Patches and a class token through twelve blocks; the features are the class token.

    Images of other sizes than 224 pixels have the embedding of places interpolated to their grid of
    patches. What does not fill a patch, at the right and lower edge, is not seen.
    """

    HEAD = "head"

    def __init__(self, width: int, num_heads: int, num_classes: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width))
        self.patch_embed = PatchEmbed(width)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        # `self.head` is the property of every network; timm's key is the same word.
        setattr(self, self.HEAD, nn.Linear(width, num_classes))
        self._initialise()

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The class token behind the last norm, shape (B, D)."""
        patches_BDHW = self.patch_embed(images_BCHW)
        patches_BND = patches_BDHW.flatten(2).transpose(1, 2)
        x_BND = torch.cat([self.cls_token.expand(len(images_BCHW), -1, -1), patches_BND], dim=1)
        height, width = patches_BDHW.shape[-2:]
        x_BND = self.blocks(x_BND + self._places(height, width))
        features_BD: Tensor = self.norm(x_BND[:, 0])
        # Between the blocks it is float32 under autocast, for the sake of the sums.
        return features_BD.to(patches_BDHW.dtype)

    def _places(self, height: int, width: int) -> Tensor:
        """The embedding of the class token and of a grid of patches, (1, 1 + H * W, D)."""
        if (height, width) == (GRID, GRID):
            return self.pos_embed
        token_11D, grid_1ND = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        grid_1DHW = grid_1ND.transpose(1, 2).unflatten(2, (GRID, GRID))
        resized_1DHW = functional.interpolate(
            grid_1DHW, (height, width), mode="bicubic", antialias=True
        )
        return torch.cat([token_11D, resized_1DHW.flatten(2).transpose(1, 2)], dim=1)

    def _initialise(self) -> None:
        """As timm does; the convolution of the patches keeps torch's weights."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
