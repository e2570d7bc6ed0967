# SPDX-License-Identifier: Apache-2.0
"""VPNs made by hand, the way their own manuals say: what CNSMO is measured against."""
