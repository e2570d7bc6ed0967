# SPDX-License-Identifier: Apache-2.0
"""CNSMO: network services across the VMs of a deployment."""

__version__ = "0.1.0"
