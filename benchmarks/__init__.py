# SPDX-License-Identifier: Apache-2.0
"""What is measured, beside its peers, in one run on one machine: trust ratios, not figures."""
