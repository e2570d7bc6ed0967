# SPDX-License-Identifier: Apache-2.0
"""Every fault that CNSMO promises to live with, brought about for real in real processes."""
