# SPDX-License-Identifier: Apache-2.0
"""What makes VMs: one module for each kind of cloud."""
