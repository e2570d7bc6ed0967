# SPDX-License-Identifier: Apache-2.0
"""A small real OpenStack on one machine, for tests: tools/openstack-lab."""
