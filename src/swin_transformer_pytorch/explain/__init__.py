"""Looks inside a model: which places speak for an answer (Grad-CAM), and which tokens attend to which."""

from __future__ import annotations

from .attention import TokenAttention as TokenAttention, attention_at as attention_at, attention_maps as attention_maps
from .cam import GradCam as GradCam, explain as explain, grad_cam as grad_cam
from .view import ExplainError as ExplainError, NotInImageError as NotInImageError
