# SPDX-License-Identifier: Apache-2.0
"""From user-data to running agents, and to a core: parameters, rendering, the boot itself."""
