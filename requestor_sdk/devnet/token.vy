# pragma version 0.4.3
"""
@title The token of a network on one machine
@notice An ERC-20 token that is worth nothing; whoever deploys it has all of it.
@license Apache-2.0
"""

from ethereum.ercs import IERC20

implements: IERC20

name: public(constant(String[12])) = "Devnet token"
symbol: public(constant(String[4])) = "tGLM"
decimals: public(constant(uint8)) = 18

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(supply: uint256):
    """
    @notice Give all of it to who deploys it.
    @param supply In the smallest unit.
    """
    self.totalSupply = supply
    self.balanceOf[msg.sender] = supply
    log IERC20.Transfer(sender=empty(address), receiver=msg.sender, value=supply)


@external
def transfer(to: address, amount: uint256) -> bool:
    """
    @notice Move tokens of the caller.
    """
    self._move(msg.sender, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Let somebody move tokens of the caller, up to an amount.
    """
    self.allowance[msg.sender][spender] = amount
    log IERC20.Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    """
    @notice Move tokens of an owner who has approved it.
    """
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, to, amount)
    return True


@internal
def _move(owner: address, to: address, amount: uint256):
    # Subtraction below zero reverts: nobody can spend what they have not.
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
    log IERC20.Transfer(sender=owner, receiver=to, value=amount)
