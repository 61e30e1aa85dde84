// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/port.h"

const char *port_name(void)
{
	return "none";
}
