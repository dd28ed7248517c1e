/* swap_rig.c - see swap_rig.h for the contract. */
#include "support/swap_rig.h"
