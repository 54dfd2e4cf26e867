"""What the methods text cites; every method of the registry has its sources here."""

from __future__ import annotations

from normct.common.registry import STAGE1

REFERENCES = {
    "thesis": "Venkatakrishnan AR. Self Supervised Out of Distribution Detection for Medical Applications. Master's "
    "thesis, TU München, 2020; Venkatakrishnan AR et al. arXiv:2011.05428, 2020.",
    "chen": "Chen L et al. Self-supervised learning for medical image analysis using image context restoration. "
    "Med Image Anal 58:101539, 2019.",
    "hendrycks": "Hendrycks D et al. Using self-supervised learning can improve model robustness and uncertainty. "
    "NeurIPS, 2019.",
    "zimmerer_kl": "Zimmerer D et al. Unsupervised anomaly localization using variational auto-encoders. MICCAI, 2019.",
    "zimmerer_ce": "Zimmerer D et al. Context-encoding variational autoencoder for unsupervised anomaly detection. "
    "MIDL, 2019.",
    "kascenas": "Kascenas A et al. Denoising autoencoders for unsupervised anomaly detection in brain MRI. MIDL, 2022.",
    "kendall": "Kendall A, Gal Y. What uncertainties do we need in Bayesian deep learning for computer vision? "
    "NeurIPS, 2017.",
    "gal": "Gal Y, Ghahramani Z. Dropout as a Bayesian approximation: representing model uncertainty in deep learning. "
    "ICML, 2016.",
    "makhzani": "Makhzani A et al. Adversarial autoencoders. arXiv:1511.05644, 2015.",
    "papamakarios": "Papamakarios G et al. Masked autoregressive flow for density estimation. NeurIPS, 2017.",
    "chen_lossy": "Chen X et al. Variational lossy autoencoder. ICLR, 2017.",
    "chen_tc": "Chen RTQ et al. Isolating sources of disentanglement in variational autoencoders. NeurIPS, 2018.",
    "kingma": "Kingma DP, Ba J. Adam: a method for stochastic optimization. ICLR, 2015.",
    "muschelli": "Muschelli J et al. Validated automatic brain extraction of head CT images. NeuroImage 114:379-385, "
    "2015.",
    "ants": "Avants BB et al. A reproducible evaluation of ANTs similarity metric performance in brain image "
    "registration. NeuroImage 54:2033-2044, 2011.",
    "fonov": "Fonov V et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage 54:313-327, "
    "2011.",
    "candes": "Candès EJ et al. Robust principal component analysis? J ACM 58(3):11, 2011.",
    "torre": "De la Torre F, Black MJ. A framework for robust subspace learning. Int J Comput Vis 54:117-142, 2003.",
    "efron": "Efron B, Tibshirani RJ. An Introduction to the Bootstrap. Chapman & Hall, 1993.",
    "baur": "Baur C et al. Autoencoders for unsupervised anomaly segmentation in brain MR images: a comparative study. "
    "Med Image Anal 69:101952, 2021.",
    "bunch": "Bunch PC et al. A free response approach to the measurement and characterization of radiographic observer "
    "performance. J Appl Photogr Eng 4:166-171, 1978.",
    "lakshminarayanan": "Lakshminarayanan B et al. Simple and scalable predictive uncertainty estimation using deep "
    "ensembles. NeurIPS, 2017.",
    "elyaniv": "El-Yaniv R, Wiener Y. On the foundations of noise-free selective classification. J Mach Learn Res "
    "11:1605-1641, 2010.",
}

_HEAD = ("thesis", "hendrycks")
CITED: dict[str, tuple[str, ...]] = {
    "vae_kl": ("zimmerer_kl",),
    "cevae": ("zimmerer_ce",),
    STAGE1: ("chen",),
    "vae_pretrained": ("thesis",),
    "multitask_pretrained": _HEAD,
    "denoising": ("kascenas",),
    "vae_variance": ("kendall",),
    "vae_dropout": ("gal",),
    "aae": ("makhzani",),
    "vae_flow": ("papamakarios", "chen_lossy"),
    "beta_tcvae": ("chen_tc",),
    "multitask": _HEAD,
    "multitask_epsilon_low": _HEAD,
    "multitask_epsilon_high": _HEAD,
}
"""Keys of a method's sources."""
