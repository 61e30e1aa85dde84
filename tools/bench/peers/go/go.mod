// SPDX-License-Identifier: MIT OR GPL-2.0
module peers

go 1.19
