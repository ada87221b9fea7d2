"""A trained model of nnInteractive with random weights: runs in the peers' environment.

    python nninteractive_standin.py FOLDER BOXES

Writes what `nnInteractiveInferenceSession.initialize_from_trained_model_folder` reads: plan, data
set, what the model can do, and one fold's checkpoint. The network is nnInteractive's architecture,
far smaller. BOXES is ``3d``, or ``2d`` for boxes on one slice alone, as the official model of 2025
takes them.
"""

import json
import sys
from pathlib import Path

import torch
from nnInteractive.trainer.nnInteractiveTrainer import nnInteractiveTrainer_stub
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

CONFIGURATION = "3d_fullres"
IMAGE_CHANNELS, PROMPT_CHANNELS = 1, 7
"""Previous mask, and pairs of positive and negative: boxes and lassos, points, scribbles."""

PLANS = {
    "dataset_name": "Dataset001_Standin",
    "plans_name": "nnUNetResEncUNetPlans",
    "original_median_spacing_after_transp": [1, 1, 1],
    "original_median_shape_after_transp": [32, 32, 32],
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "experiment_planner_used": "ResEncUNetPlanner",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {},
    "configurations": {
        CONFIGURATION: {
            "data_identifier": "standin",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 1,
            "patch_size": [64, 64, 64],
            "spacing": [1, 1, 1],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "batch_dice": False,
            "architecture": {
                "network_class_name": (
                    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
                ),
                "arch_kwargs": {
                    "n_stages": 2,
                    "features_per_stage": [2, 4],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 3, 3]] * 2,
                    "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_blocks_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}


def main(folder: Path, boxes_in_3d: bool) -> None:
    """Writes the model into a folder, which is made."""
    torch.manual_seed(17)
    plans = PlansManager(PLANS)
    network = nnInteractiveTrainer_stub.build_network_architecture(
        plans,
        plans.get_configuration(CONFIGURATION),
        IMAGE_CHANNELS + PROMPT_CHANNELS,
        num_output_channels=2,
        enable_deep_supervision=False,
    )
    # Little is foreground: where the target seems to go on at a patch's border, nnInteractive zooms
    # out, and then refines patch by patch, which takes long.
    noise = torch.randn(1, IMAGE_CHANNELS + PROMPT_CHANNELS, 64, 64, 64)
    with torch.no_grad():
        background, target = network(noise)[0]
        network.decoder.seg_layers[-1].bias[0] += torch.quantile(target - background, 0.99)
    (folder / "fold_0").mkdir(parents=True)
    torch.save(
        {
            "trainer_name": "nnInteractiveTrainer_stub",
            "init_args": {"configuration": CONFIGURATION},
            "network_weights": network.state_dict(),
        },
        folder / "fold_0" / "checkpoint_final.pth",
    )
    files = {
        "plans.json": PLANS,
        "dataset.json": {
            "channel_names": {"0": "image"},
            "labels": {"background": 0, "target": 1},
            "file_ending": ".nii.gz",
        },
        "inference_info.json": {"supported_interactions": {"bbox3d": boxes_in_3d}},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]), boxes_in_3d=sys.argv[2] == "3d")
